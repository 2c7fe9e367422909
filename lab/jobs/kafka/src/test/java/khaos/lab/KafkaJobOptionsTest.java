package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class KafkaJobOptionsTest {

    @Test
    void readsWhatIsGiven() {
        assertEquals(
                new KafkaJobOptions("a:1,b:2", List.of("x", "y.z"), "g", 250, 4096, 16),
                parse("--bootstrap a:1,b:2 --topics x,y.z --group g --capacity 250 --state-bytes 4096 --keys 16"));
        assertEquals(
                new KafkaJobOptions("a:1", List.of("x"), "g", 250, 0, 1024),
                parse("--bootstrap a:1 --topics x --group g --capacity 250"));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "--topics x --group g --capacity 250",
                "--bootstrap a:1 --group g --capacity 250",
                "--bootstrap a:1 --topics x --capacity 250",
                "--bootstrap a:1 --topics x --group g",
                "--bootstrap a:1 --topics x --group g --capacity 250 --rates 1:1",
            })
    void whatIsMissingOrUnknownIsSaidWithTheUsage(String arguments) {
        IllegalArgumentException refused =
                assertThrows(IllegalArgumentException.class, () -> parse(arguments));
        assertTrue(refused.getMessage().contains(KafkaJobOptions.USAGE), refused.getMessage());
    }

    private static KafkaJobOptions parse(String arguments) {
        return KafkaJobOptions.parse(arguments.split(" "));
    }
}
