package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class JobOptionsTest {

    @Test
    void readsWhatIsGivenAndLeavesTheRest() {
        JobOptions options =
                parse("--rates 10:100 --then repeat --capacity 250 --state-bytes 4096 --parallelism 2"
                        + " --sources 3 --report-lag false");
        assertEquals(2000, options.schedule().arrivedBy(20_000));
        assertEquals(options(options.schedule(), 4096, Optional.of(2), 3, false), options);
    }

    @Test
    void whoAsksForNothingGetsOneSourceThatReportsItsLag() {
        JobOptions options = parse("--rates 10:100 --capacity 250");
        assertEquals(options(options.schedule(), 0, Optional.empty(), 1, true), options);
        assertEquals(true, parse("--rates 10:100 --capacity 250 --report-lag true").reportsLag());
    }

    @Test
    void theStartIsKnownOrTold() {
        assertEquals(new Start.At(42), parse("--rates 10:100 --capacity 250").start());
        assertEquals(new Start.At(7), parse("--rates 10:100 --capacity 250 --epoch-ms 7").start());
        assertEquals(new Start.Told("/a/b"), parse("--rates 10:100 --capacity 250 --starts-with /a/b").start());
    }

    @Test
    void deliveriesAreCountedWhereThatIsAskedFor() {
        assertEquals(Optional.of("/a/b"), parse("--rates 10:100 --capacity 250 --deliveries /a/b").deliveries());
    }

    /** The names are ids in savepoints: whoever changes one loses the state of the jobs before. */
    @Test
    void sourcesKeepTheirNames() {
        assertEquals(List.of("arrivals"), parse("--rates 10:100 --capacity 250 --sources 1").sourceNames());
        assertEquals(
                List.of("arrivals-1", "arrivals-2", "arrivals-3"),
                parse("--rates 10:100 --capacity 250 --sources 3").sourceNames());
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
                "--rates 10:100 --capacity 250 --sources 0",
                "--rates 10:100 --capacity 250 --report-lag yes",
                "--rates 10:100 --capacity 250 --starts-with /a/b --epoch-ms 7",
                "--rates 10:100 --capacity",
                "rates 10:100",
            })
    void refusesWhatItDoesNotUnderstand(String line) {
        assertThrows(IllegalArgumentException.class, () -> parse(line));
    }

    private static JobOptions options(
            RateSchedule schedule, long stateBytes, Optional<Integer> parallelism, int sources, boolean reportsLag) {
        Start start = new Start.At(42);
        return new JobOptions(
                schedule, start, 250, stateBytes, 1024, parallelism, sources, reportsLag, Optional.empty());
    }

    private static JobOptions parse(String line) {
        return JobOptions.parse(line.split(" "), 42);
    }
}
