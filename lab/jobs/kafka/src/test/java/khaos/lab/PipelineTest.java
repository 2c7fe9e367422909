package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class PipelineTest {

    private static final String WHOLE =
            "--bootstrap a:1,b:2 --input in --output out --group g --transactional-id-prefix p"
                    + " --transaction-timeout-ms 60000";

    @Test
    void readsWhatIsGiven() {
        assertEquals(new Pipeline("a:1,b:2", "in", "out", "g", "p", 60_000), parse(WHOLE));
    }

    @ParameterizedTest
    @ValueSource(strings = {"bootstrap", "input", "output", "group", "transactional-id-prefix", "transaction-timeout-ms"})
    void whatIsMissingIsNamedWithTheUsage(String name) {
        String without = WHOLE.replaceFirst("--" + name + " \\S+ ?", "").strip();
        String said = assertThrows(IllegalArgumentException.class, () -> parse(without)).getMessage();
        assertTrue(said.startsWith("--" + name + " is missing") && said.contains(Pipeline.USAGE), said);
    }

    @ParameterizedTest
    @ValueSource(strings = {" --topics x", " --transaction-timeout-ms 0", " --transaction-timeout-ms 1s"})
    void whatIsUnknownOrNoTimeIsRefused(String more) {
        assertThrows(IllegalArgumentException.class, () -> parse(WHOLE + more));
    }

    private static Pipeline parse(String arguments) {
        return Pipeline.parse(arguments.split(" "));
    }
}
