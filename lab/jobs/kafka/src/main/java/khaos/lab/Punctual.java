package khaos.lab;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFilterFunction;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.metrics.Counter;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;

/**
 * Leaves out what comes late, and counts it, as {@code late}; no window does after it.
 *
 * <p>Flink's own watermarks cannot decide that: they are not part of a checkpoint and begin anew after a failure, so
 * an event that was late before might be in time then. What this knows is part of the checkpoint, and no watermark
 * is ahead of what it lets through.
 */
final class Punctual<T extends TimedEvent> extends RichFilterFunction<T> implements CheckpointedFunction {

    private static final long serialVersionUID = 1L;

    private transient Punctuality punctuality;
    private transient ListState<Tuple2<Integer, Long>> kept;
    private transient Counter late;

    @Override
    public void initializeState(FunctionInitializationContext context) throws Exception {
        ListStateDescriptor<Tuple2<Integer, Long>> latest =
                new ListStateDescriptor<>("latest", Types.TUPLE(Types.INT, Types.LONG));
        // Whoever reads a partition now, another may have read it before: each is told what all knew.
        kept = context.getOperatorStateStore().getUnionListState(latest);
        punctuality = new Punctuality();
        for (Tuple2<Integer, Long> known : kept.get()) {
            punctuality.reached(known.f0, known.f1);
        }
    }

    @Override
    public void open(OpenContext context) {
        late = getRuntimeContext().getMetricGroup().counter("late");
    }

    @Override
    public boolean filter(T event) {
        boolean admitted = punctuality.admits(event.partition(), event.timeMs());
        if (!admitted) {
            late.inc();
        }
        return admitted;
    }

    @Override
    public void snapshotState(FunctionSnapshotContext context) throws Exception {
        List<Tuple2<Integer, Long>> known = new ArrayList<>();
        punctuality.latestMs().forEach((partition, timeMs) -> known.add(Tuple2.of(partition, timeMs)));
        kept.update(known);
    }
}
