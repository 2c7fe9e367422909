package khaos.lab;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * A job whose load, capacity and state are known, so that what Khaos measures can be held against the truth.
 * Arrivals (paced sources) → work of a chosen cost on keyed state of a chosen size → nothing.
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
                new PacedSource(options.schedule(), options.epochMs(), slots.count(), options.reportsLag());
        PacedWork work = new PacedWork(options.capacity(), options.stateBytes(), slots.count());

        // Every operator has a fixed id: a later submission finds its state, and metrics keep their names.
        // Each source creates all of the state, which is the same whoever does: so none waits for another.
        options.sourceNames().stream()
                .map(name -> source(env, arrivals, name))
                .reduce(DataStream::union)
                .orElseThrow()
                .keyBy(event -> slots.key(event.slot()), Types.INT)
                .process(work)
                .name("work")
                .uid("work")
                .sinkTo(new DiscardingSink<>())
                .name("discard")
                .uid("discard");
        env.execute();
    }

    private static DataStream<Event> source(StreamExecutionEnvironment env, PacedSource arrivals, String name) {
        return env.fromSource(arrivals, WatermarkStrategy.noWatermarks(), name, TypeInformation.of(Event.class))
                .uid(name);
    }
}
