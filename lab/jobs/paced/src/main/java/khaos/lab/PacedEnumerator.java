package khaos.lab;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;

/** Hands each split to the reader of its index, once; its state is what nobody has yet. */
final class PacedEnumerator implements SplitEnumerator<PacedSplit, List<PacedSplit>> {

    private final SplitEnumeratorContext<PacedSplit> context;
    private final List<PacedSplit> unassigned;

    PacedEnumerator(SplitEnumeratorContext<PacedSplit> context, List<PacedSplit> unassigned) {
        this.context = context;
        this.unassigned = new ArrayList<>(unassigned);
    }

    @Override
    public void start() {}

    @Override
    public void addReader(int subtask) {
        for (PacedSplit split : List.copyOf(unassigned)) {
            if (split.index() % context.currentParallelism() == subtask) {
                unassigned.remove(split);
                context.assignSplit(split, subtask);
            }
        }
    }

    /** A reader failed before a checkpoint held its splits; it registers again and is then given them. */
    @Override
    public void addSplitsBack(List<PacedSplit> splits, int subtask) {
        unassigned.addAll(splits);
    }

    /** Readers do not ask: they are given their splits when they register. */
    @Override
    public void handleSplitRequest(int subtask, String host) {}

    @Override
    public List<PacedSplit> snapshotState(long checkpoint) {
        return List.copyOf(unassigned);
    }

    @Override
    public void close() {}
}
