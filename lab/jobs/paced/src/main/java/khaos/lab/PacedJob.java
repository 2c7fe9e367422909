package khaos.lab;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * A job whose load, capacity and state are known, so that what Khaos measures can be held against the truth.
 * Arrivals (paced sources) → work of a chosen cost on keyed state of a chosen size → nothing, or a count.
 */
public final class PacedJob {

    private PacedJob() {}

    /**
     * Submits the job. See {@link JobOptions} for the arguments; the name, checkpoints and restarts come from the
     * submission and the cluster.
     */
    public static void main(String[] args) throws Exception {
        JobOptions options = JobOptions.parse(args, System.currentTimeMillis());
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        options.parallelism().ifPresent(env::setParallelism);
        env.setMaxParallelism(KeySlots.MAX_PARALLELISM);

        KeySlots slots = new KeySlots(options.keys());
        PacedSource arrivals =
                new PacedSource(options.schedule(), options.start(), slots.count(), options.reportsLag());
        PacedWork work = new PacedWork(options.capacity(), options.stateBytes(), slots.count());

        // Every operator has a fixed id: a later submission finds its state, and metrics keep their names.
        // Each source creates all of the state, which is the same whoever does: so none waits for another.
        DataStream<Long> worked =
                options.sourceNames().stream()
                        .map(name -> source(env, arrivals, name))
                        .reduce(DataStream::union)
                        .orElseThrow()
                        .keyBy(event -> slots.keyOf(event.index()), Types.INT)
                        .process(work)
                        .name("work")
                        .uid("work");
        // Two ids: what a counting job has yet to commit is no other's to forget.
        options.deliveries()
                .ifPresentOrElse(
                        folder -> sink(worked, new CountingSink(folder), "deliveries"),
                        () -> sink(worked, new DiscardingSink<>(), "discard"));
        env.execute();
    }

    private static void sink(DataStream<Long> worked, Sink<Long> sink, String name) {
        worked.sinkTo(sink).name(name).uid(name);
    }

    private static DataStream<Event> source(StreamExecutionEnvironment env, PacedSource arrivals, String name) {
        return env.fromSource(arrivals, WatermarkStrategy.noWatermarks(), name, TypeInformation.of(Event.class))
                .uid(name);
    }
}
