package khaos.lab;

import java.util.List;
import java.util.stream.IntStream;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** A log whose records arrive by a {@link RateSchedule}, in as many splits as the source has subtasks at first. */
final class PacedSource implements Source<Event, PacedSplit, List<PacedSplit>> {

    private static final long serialVersionUID = 1L;

    private final RateSchedule schedule;
    private final Start start;
    private final int slots;
    private final boolean reportsLag;

    PacedSource(RateSchedule schedule, Start start, int slots, boolean reportsLag) {
        this.schedule = schedule;
        this.start = start;
        this.slots = slots;
        this.reportsLag = reportsLag;
    }

    @Override
    public Boundedness getBoundedness() {
        return Boundedness.CONTINUOUS_UNBOUNDED;
    }

    @Override
    public SplitEnumerator<PacedSplit, List<PacedSplit>> createEnumerator(
            SplitEnumeratorContext<PacedSplit> context) {
        int count = context.currentParallelism();
        List<PacedSplit> splits =
                IntStream.range(0, count).mapToObj(i -> PacedSplit.untold(i, count)).toList();
        return new PacedEnumerator(context, splits);
    }

    @Override
    public SplitEnumerator<PacedSplit, List<PacedSplit>> restoreEnumerator(
            SplitEnumeratorContext<PacedSplit> context, List<PacedSplit> unassigned) {
        return new PacedEnumerator(context, unassigned);
    }

    @Override
    public SourceReader<Event, PacedSplit> createReader(SourceReaderContext context) {
        return new PacedReader(schedule, start, slots, reportsLag, context);
    }

    @Override
    public SimpleVersionedSerializer<PacedSplit> getSplitSerializer() {
        return new PacedSplitsSerializer.One();
    }

    @Override
    public SimpleVersionedSerializer<List<PacedSplit>> getEnumeratorCheckpointSerializer() {
        return new PacedSplitsSerializer();
    }
}
