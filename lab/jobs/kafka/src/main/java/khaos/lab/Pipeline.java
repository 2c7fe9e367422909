package khaos.lab;

import java.time.Duration;
import java.util.OptionalLong;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * Both ends of a job that reads events of one topic and writes results to another, exactly once. Nothing here
 * concerns checkpoints, restarts, parallelism or the job's name: those belong to the cluster and to the submission's
 * own configuration, which is what Khaos exercises.
 *
 * <p>Event time goes on as far as the partition that is furthest behind, so each of them has to get events, and the
 * job must not have more subtasks than the input has partitions. A partition that is quiet is waited for: to go on
 * without it after some time would make the results depend on that time.
 *
 * @param bootstrap brokers to begin with
 * @param input the topic that is read
 * @param output the topic that is written to
 * @param group under which offsets are committed with each checkpoint, for others to see
 * @param transactionalIdPrefix with which its transactional ids begin: no other job's may begin the same
 * @param transactionTimeoutMs how long brokers keep a transaction that nobody ends. What is written between two
 *     checkpoints is one, so it is longer than interval, checkpoint and restart together; brokers bound it
 *     ({@code transaction.max.timeout.ms}, 15 min)
 * @param startsWithLatest whether it begins with what arrives from now on, where no checkpoint says otherwise
 * @param capacity events per second that the whole job can sustain; whatever the machine gives where not said
 */
record Pipeline(
        String bootstrap,
        String input,
        String output,
        String group,
        String transactionalIdPrefix,
        long transactionTimeoutMs,
        boolean startsWithLatest,
        OptionalLong capacity) {

    static final String USAGE =
            "--bootstrap HOST:PORT[,…] --input TOPIC --output TOPIC --group NAME --transactional-id-prefix PREFIX"
                    + " --transaction-timeout-ms N [--starts-with earliest|latest] [--capacity EVENTS_PER_S]";

    /** Reads {@code --name value} pairs. */
    static Pipeline parse(String[] args) {
        Arguments given = new Arguments(args, USAGE);
        Pipeline pipeline =
                new Pipeline(
                        given.required("bootstrap"),
                        given.required("input"),
                        given.required("output"),
                        given.required("group"),
                        given.required("transactional-id-prefix"),
                        given.requiredWhole("transaction-timeout-ms", 1),
                        given.optional("starts-with").map(Pipeline::isLatest).orElse(false),
                        given.whole("capacity", 1).map(OptionalLong::of).orElse(OptionalLong.empty()));
        given.refuseLeftOver();
        return pipeline;
    }

    private static boolean isLatest(String startsWith) {
        return switch (startsWith) {
            case "earliest" -> false;
            case "latest" -> true;
            default -> throw new IllegalArgumentException(
                    "--starts-with is earliest or latest, not '" + startsWith + "'");
        };
    }

    /** The events of the input that come in time. */
    <T extends TimedEvent> DataStream<T> events(StreamExecutionEnvironment env, EventFormat<T> format) {
        KafkaSource<T> events =
                KafkaSource.<T>builder()
                        .setBootstrapServers(bootstrap)
                        .setTopics(input)
                        .setGroupId(group)
                        .setStartingOffsets(
                                startsWithLatest ? OffsetsInitializer.latest() : OffsetsInitializer.earliest())
                        // A partition that is found while the job runs would begin behind the windows.
                        .setProperty("partition.discovery.interval.ms", "-1")
                        .setDeserializer(new EventReader<>(format))
                        .build();
        // By partition, because it is the source that makes them.
        WatermarkStrategy<T> watermarks =
                WatermarkStrategy.<T>forBoundedOutOfOrderness(Duration.ofMillis(Punctuality.BOUND_MS))
                        .withTimestampAssigner((event, recordMs) -> event.timeMs());
        DataStream<T> read = env.fromSource(events, watermarks, "events").uid("events");
        if (capacity.isPresent()) {
            read = read.map(new Paced<T>(capacity.getAsLong())).returns(read.getType()).name("paced").uid("paced");
        }
        return read.filter(new Punctual<>())
                .name("punctual")
                .uid("punctual");
    }

    /** Writes results to the output, where readers of committed events see them with the next checkpoint. */
    <T extends Result> void deliver(DataStream<T> results) {
        KafkaSink<T> sink =
                KafkaSink.<T>builder()
                        .setBootstrapServers(bootstrap)
                        .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                        .setTransactionalIdPrefix(transactionalIdPrefix)
                        .setProperty("transaction.timeout.ms", Long.toString(transactionTimeoutMs))
                        .setRecordSerializer(new ResultWriter<>(output))
                        .build();
        results.sinkTo(sink).name("results").uid("results");
    }
}
