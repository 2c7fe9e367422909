package khaos.lab;

import java.util.List;

/**
 * What the submission may say about the job. Nothing here concerns checkpoints, restarts, parallelism or the job's
 * name: those belong to the cluster and to the submission's own configuration, which is what Khaos exercises.
 *
 * @param bootstrap brokers to begin with
 * @param topics what it reads, from the beginning where no checkpoint says otherwise
 * @param group under which its offsets are committed with each checkpoint, for others to see
 * @param capacity events per second the whole job can sustain
 * @param stateBytes size of the keyed state of the whole job, once every key had an event
 * @param keys number of keys the state is spread over
 */
record KafkaJobOptions(
        String bootstrap,
        List<String> topics,
        String group,
        long capacity,
        long stateBytes,
        int keys) {

    static final String USAGE =
            "--bootstrap HOST:PORT[,…] --topics NAME[,…] --group NAME --capacity EVENTS_PER_S"
                    + " [--state-bytes N] [--keys K]";

    /** Reads {@code --name value} pairs. */
    static KafkaJobOptions parse(String[] args) {
        Arguments given = new Arguments(args, USAGE);
        KafkaJobOptions options =
                new KafkaJobOptions(
                        given.required("bootstrap"),
                        List.of(given.required("topics").split(",")),
                        given.required("group"),
                        given.requiredWhole("capacity", 1),
                        given.whole("state-bytes", 0).orElse(0L),
                        Math.toIntExact(given.whole("keys", 1).orElse(1024L)));
        given.refuseLeftOver();
        return options;
    }
}
