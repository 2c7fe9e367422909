package khaos.lab;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
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
        Arguments given = new Arguments(args);
        JobOptions options =
                new JobOptions(
                        RateSchedule.parse(given.required("rates"), given.then()),
                        given.start(nowMs),
                        given.whole("capacity", 1).orElseThrow(() -> missing("capacity")),
                        given.whole("state-bytes", 0).orElse(0L),
                        Math.toIntExact(given.whole("keys", 1).orElse(1024L)),
                        given.whole("parallelism", 1).map(Math::toIntExact),
                        Math.toIntExact(given.whole("sources", 1).orElse(1L)),
                        given.reportLag(),
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

    private static IllegalArgumentException missing(String name) {
        return new IllegalArgumentException("--" + name + " is missing. Usage: " + USAGE);
    }

    /** The pairs not yet read. */
    private static final class Arguments {
        private final Map<String, String> values = new LinkedHashMap<>();

        Arguments(String[] args) {
            for (int i = 0; i < args.length; i += 2) {
                if (!args[i].startsWith("--") || i + 1 == args.length) {
                    throw new IllegalArgumentException("'" + args[i] + "' is not --name value. Usage: " + USAGE);
                }
                values.put(args[i].substring(2), args[i + 1]);
            }
        }

        String required(String name) {
            return optional(name).orElseThrow(() -> missing(name));
        }

        Optional<String> optional(String name) {
            return Optional.ofNullable(values.remove(name));
        }

        Start start(long nowMs) {
            Optional<String> file = optional("starts-with");
            Optional<Long> epochMs = whole("epoch-ms", 0);
            if (file.isPresent() && epochMs.isPresent()) {
                throw new IllegalArgumentException("--starts-with tells the epoch: --epoch-ms cannot be given as well");
            }
            return file.<Start>map(Start.Told::new).orElseGet(() -> new Start.At(epochMs.orElse(nowMs)));
        }

        RateSchedule.Then then() {
            String value = optional("then").orElse("hold");
            return switch (value) {
                case "hold" -> RateSchedule.Then.HOLD;
                case "repeat" -> RateSchedule.Then.REPEAT;
                default -> throw new IllegalArgumentException("--then is hold or repeat, not '" + value + "'");
            };
        }

        boolean reportLag() {
            String value = optional("report-lag").orElse("true");
            return switch (value) {
                case "true" -> true;
                case "false" -> false;
                default -> throw new IllegalArgumentException("--report-lag is true or false, not '" + value + "'");
            };
        }

        Optional<Long> whole(String name, long least) {
            String value = values.remove(name);
            if (value == null) {
                return Optional.empty();
            }
            try {
                long number = Long.parseLong(value);
                if (number >= least) {
                    return Optional.of(number);
                }
            } catch (NumberFormatException e) {
                throw new IllegalArgumentException("--" + name + " is a whole number, not '" + value + "'", e);
            }
            throw new IllegalArgumentException("--" + name + " is at least " + least + ", not " + value);
        }

        void refuseLeftOver() {
            if (!values.isEmpty()) {
                throw new IllegalArgumentException("unknown options " + values.keySet() + ". Usage: " + USAGE);
            }
        }
    }
}
