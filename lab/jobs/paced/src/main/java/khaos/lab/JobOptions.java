package khaos.lab;

import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;

/**
 * What the submission may say about the job. Nothing here concerns checkpoints, restarts or the job's name: those
 * belong to the cluster and to the submission's own configuration, which is what Khaos exercises.
 *
 * @param schedule when events arrive at each source
 * @param start when the schedule starts
 * @param capacity events per second the whole job can sustain
 * @param stateBytes size of the keyed state of the whole job
 * @param keys number of keys the state is spread over
 * @param parallelism parallelism of the job, or empty to leave it to the submission
 * @param sources number of sources, each with the whole schedule
 * @param reportsLag whether the sources tell how many events wait for them
 * @param deliveries folder in which what is delivered is counted, exactly once; empty to count nothing
 */
record JobOptions(
        RateSchedule schedule,
        Start start,
        long capacity,
        long stateBytes,
        int keys,
        Optional<Integer> parallelism,
        int sources,
        boolean reportsLag,
        Optional<String> deliveries) {

    static final String USAGE =
            "--rates SECONDS:EVENTS_PER_S[,…] [--then hold|repeat] [--epoch-ms T | --starts-with FILE]"
                    + " --capacity EVENTS_PER_S"
                    + " [--state-bytes N] [--keys K] [--parallelism P] [--sources N] [--report-lag true|false]"
                    + " [--deliveries DIR]";

    /** Reads {@code --name value} pairs; {@code nowMs} is the epoch unless one is given. */
    static JobOptions parse(String[] args, long nowMs) {
        Arguments given = new Arguments(args, USAGE);
        JobOptions options =
                new JobOptions(
                        RateSchedule.parse(given.required("rates"), then(given)),
                        start(given, nowMs),
                        given.requiredWhole("capacity", 1),
                        given.whole("state-bytes", 0).orElse(0L),
                        Math.toIntExact(given.whole("keys", 1).orElse(1024L)),
                        given.whole("parallelism", 1).map(Math::toIntExact),
                        Math.toIntExact(given.whole("sources", 1).orElse(1L)),
                        reportLag(given),
                        given.optional("deliveries"));
        given.refuseLeftOver();
        return options;
    }

    /**
     * Names of the sources, which are their ids too. A single one has no number: that is the id under which its
     * state lies in savepoints, and its name in metrics.
     */
    List<String> sourceNames() {
        return sources == 1
                ? List.of("arrivals")
                : IntStream.rangeClosed(1, sources).mapToObj(i -> "arrivals-" + i).toList();
    }

    private static Start start(Arguments given, long nowMs) {
        Optional<String> file = given.optional("starts-with");
        Optional<Long> epochMs = given.whole("epoch-ms", 0);
        if (file.isPresent() && epochMs.isPresent()) {
            throw new IllegalArgumentException("--starts-with tells the epoch: --epoch-ms cannot be given as well");
        }
        return file.<Start>map(Start.Told::new).orElseGet(() -> new Start.At(epochMs.orElse(nowMs)));
    }

    private static RateSchedule.Then then(Arguments given) {
        String value = given.optional("then").orElse("hold");
        return switch (value) {
            case "hold" -> RateSchedule.Then.HOLD;
            case "repeat" -> RateSchedule.Then.REPEAT;
            default -> throw new IllegalArgumentException("--then is hold or repeat, not '" + value + "'");
        };
    }

    private static boolean reportLag(Arguments given) {
        String value = given.optional("report-lag").orElse("true");
        return switch (value) {
            case "true" -> true;
            case "false" -> false;
            default -> throw new IllegalArgumentException("--report-lag is true or false, not '" + value + "'");
        };
    }
}
