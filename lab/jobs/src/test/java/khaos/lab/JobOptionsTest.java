package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class JobOptionsTest {

    @Test
    void readsWhatIsGivenAndLeavesTheRest() {
        JobOptions options = parse("--rates 10:100 --then repeat --capacity 250 --state-bytes 4096 --parallelism 2");
        assertEquals(2000, options.schedule().arrivedBy(20_000));
        assertEquals(new JobOptions(options.schedule(), 42, 250, 4096, 1024, Optional.of(2)), options);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "--capacity 250",
                "--rates 10:100",
                "--rates 10:100 --capacity 0",
                "--rates 10:100 --capacity many",
                "--rates 10:100 --capacity 250 --then stop",
                "--rates 10:100 --capacity 250 --colour red",
                "--rates 10:100 --capacity",
                "rates 10:100",
            })
    void refusesWhatItDoesNotUnderstand(String line) {
        assertThrows(IllegalArgumentException.class, () -> parse(line));
    }

    private static JobOptions parse(String line) {
        return JobOptions.parse(line.split(" "), 42);
    }
}
