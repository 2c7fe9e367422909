package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.OptionalLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class PipelineTest {

    private static final String WHOLE =
            "--bootstrap a:1,b:2 --input in --output out --group g --transactional-id-prefix p"
                    + " --transaction-timeout-ms 60000";

    @Test
    void readsWhatIsGiven() {
        Pipeline whole = new Pipeline("a:1,b:2", "in", "out", "g", "p", 60_000, false, OptionalLong.empty());
        assertEquals(whole, parse(WHOLE));
        assertEquals(whole, parse(WHOLE + " --starts-with earliest"));
        Pipeline late = new Pipeline("a:1,b:2", "in", "out", "g", "p", 60_000, true, OptionalLong.of(500));
        assertEquals(late, parse(WHOLE + " --starts-with latest --capacity 500"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"bootstrap", "input", "output", "group", "transactional-id-prefix", "transaction-timeout-ms"})
    void whatIsMissingIsNamedWithTheUsage(String name) {
        String without = WHOLE.replaceFirst("--" + name + " \\S+ ?", "").strip();
        String said = assertThrows(IllegalArgumentException.class, () -> parse(without)).getMessage();
        assertTrue(said.startsWith("--" + name + " is missing") && said.contains(Pipeline.USAGE), said);
    }

    @ParameterizedTest
    @ValueSource(strings = {" --topics x", " --transaction-timeout-ms 0", " --transaction-timeout-ms 1s", " --capacity 0", " --starts-with now"})
    void whatIsUnknownOrNoTimeIsRefused(String more) {
        assertThrows(IllegalArgumentException.class, () -> parse(WHOLE + more));
    }

    private static Pipeline parse(String arguments) {
        return Pipeline.parse(arguments.split(" "));
    }
}
