package khaos.lab;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * The paced job, fed by Kafka: events of real topics → work of a chosen cost on keyed state of a chosen size →
 * nothing. What it reads is known to whoever writes the topics.
 */
public final class KafkaJob {

    private KafkaJob() {}

    /**
     * Submits the job. See {@link KafkaJobOptions} for the arguments; the name, checkpoints and restarts come from
     * the submission and the cluster.
     */
    public static void main(String[] args) throws Exception {
        KafkaJobOptions options = KafkaJobOptions.parse(args);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.setMaxParallelism(KeySlots.MAX_PARALLELISM);

        KeySlots slots = new KeySlots(options.keys());
        PacedWork work = new PacedWork(options.capacity(), options.stateBytes(), slots.count());
        KafkaSource<Event> events =
                KafkaSource.<Event>builder()
                        .setBootstrapServers(options.bootstrap())
                        .setTopics(options.topics())
                        .setGroupId(options.group())
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setDeserializer(new EventsByOffset())
                        .build();

        // Every operator has a fixed id: a later submission finds its state, and metrics keep their names.
        env.fromSource(events, WatermarkStrategy.noWatermarks(), "events")
                .uid("events")
                .keyBy(event -> slots.keyOf(event.index()), Types.INT)
                .process(work)
                .name("work")
                .uid("work")
                .sinkTo(new DiscardingSink<>())
                .name("discard")
                .uid("discard");
        env.execute();
    }
}
