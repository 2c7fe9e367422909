package khaos.lab;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.metrics.Counter;

/**
 * Emits what has arrived by the wall clock and was not read yet, as fast as the job takes it. Arrivals do not wait
 * for the job: after an outage the backlog is there, as with a log such as Kafka.
 */
final class PacedReader implements SourceReader<Event, PacedSplit> {

    /** Between these bounds, wait for the next arrival: no waking for each single event, no sleeping for ever. */
    private static final long SHORTEST_WAIT_MS = 5;
    private static final long LONGEST_WAIT_MS = 1000;
    /** Between two looks whether the start is known. */
    private static final long LOOK_MS = 20;

    private final RateSchedule schedule;
    private final Start start;
    private final int slots;
    private final Counter recordsIn;
    private final ScheduledExecutorService alarm;
    /** Read by the metrics thread, hence safe to iterate at any time. */
    private final List<Cursor> cursors = new CopyOnWriteArrayList<>();
    private CompletableFuture<Void> available = new CompletableFuture<>();
    private int turn;
    /** When to look whether the start is known; never, where every split knows it. */
    private long nextLookMs = Long.MAX_VALUE;

    PacedReader(
            RateSchedule schedule, Start start, int slots, boolean reportsLag, SourceReaderContext context) {
        this.schedule = schedule;
        this.start = start;
        this.slots = slots;
        recordsIn = context.metricGroup().getIOMetricGroup().getNumRecordsInCounter();
        // Flink shows the metric only where it is set: without it this is a source that cannot tell its lag.
        if (reportsLag) {
            context.metricGroup().setPendingRecordsGauge(this::pending);
        }
        alarm =
                Executors.newSingleThreadScheduledExecutor(
                        task -> {
                            Thread thread = new Thread(task, "arrivals-" + context.getIndexOfSubtask());
                            thread.setDaemon(true);
                            return thread;
                        });
    }

    @Override
    public void start() {}

    @Override
    public void addSplits(List<PacedSplit> splits) {
        for (PacedSplit split : splits) {
            cursors.add(new Cursor(split));
        }
        nextLookMs = 0;
        available.complete(null);
    }

    @Override
    public InputStatus pollNext(ReaderOutput<Event> output) {
        long nowMs = System.currentTimeMillis();
        if (nowMs >= nextLookMs) {
            lookForStart(nowMs);
        }
        for (int tried = 0; tried < cursors.size(); tried++) {
            turn = (turn + 1) % cursors.size();
            if (cursors.get(turn).emitNext(nowMs, output)) {
                return InputStatus.MORE_AVAILABLE;
            }
        }
        available = arrivalAfter(nowMs);
        return InputStatus.NOTHING_AVAILABLE;
    }

    @Override
    public CompletableFuture<Void> isAvailable() {
        return available;
    }

    @Override
    public List<PacedSplit> snapshotState(long checkpoint) {
        return cursors.stream().map(Cursor::split).toList();
    }

    /** The log never ends, and splits come by assignment only. */
    @Override
    public void notifyNoMoreSplits() {}

    @Override
    public void close() {
        alarm.shutdownNow();
    }

    private void lookForStart(long nowMs) {
        nextLookMs = Long.MAX_VALUE;
        if (!cursors.stream().allMatch(cursor -> cursor.split().isTold())) {
            start.known()
                    .ifPresentOrElse(
                            begin -> cursors.forEach(cursor -> cursor.tell(begin)),
                            () -> nextLookMs = nowMs + LOOK_MS);
        }
    }

    private long pending() {
        long nowMs = System.currentTimeMillis();
        return cursors.stream().mapToLong(cursor -> cursor.pending(nowMs)).sum();
    }

    private CompletableFuture<Void> arrivalAfter(long nowMs) {
        CompletableFuture<Void> arrival = new CompletableFuture<>();
        // Without a split there is nothing to wait for but the split.
        if (!cursors.isEmpty()) {
            long next = cursors.stream().mapToLong(Cursor::nextArrivalMs).min().orElseThrow();
            long dueMs = Math.min(next, nextLookMs) - nowMs;
            long waitMs = Math.max(SHORTEST_WAIT_MS, Math.min(LONGEST_WAIT_MS, dueMs));
            alarm.schedule(() -> arrival.complete(null), waitMs, TimeUnit.MILLISECONDS);
        }
        return arrival;
    }

    /** A split being read. Only the task's thread moves it; the metrics thread looks on. */
    private final class Cursor {

        private volatile PacedSplit split;

        Cursor(PacedSplit split) {
            this.split = split;
        }

        PacedSplit split() {
            return split;
        }

        void tell(Start.Begin begin) {
            if (!split.isTold()) {
                split = split.told(begin, schedule);
            }
        }

        /** Emits one record, those that create state first; false if nothing is due. */
        boolean emitNext(long nowMs, ReaderOutput<Event> output) {
            PacedSplit at = split;
            if (at.primed() < at.shareOf(slots)) {
                output.collect(Event.priming((int) at.globalIndex(at.primed())));
                split = new PacedSplit(at.index(), at.count(), at.epochMs(), at.primed() + 1, at.position());
                return true;
            }
            if (pending(nowMs) == 0) {
                return false;
            }
            output.collect(Event.arrived(at.globalIndex(at.position())), nextArrivalMs());
            // Only readers built on SourceReaderBase are counted by Flink. What creates state has not arrived: counted,
            // it would be seen as an arrival that nobody made.
            recordsIn.inc();
            split = new PacedSplit(at.index(), at.count(), at.epochMs(), at.primed(), at.position() + 1);
            return true;
        }

        long pending(long nowMs) {
            PacedSplit at = split;
            // Never negative: a clock that was set back must not look like work done in advance.
            return Math.max(0, at.shareOf(schedule.arrivedBy(nowMs - at.epochMs())) - at.position());
        }

        long nextArrivalMs() {
            PacedSplit at = split;
            if (!at.isTold()) {
                return Long.MAX_VALUE;
            }
            long sinceEpochMs = schedule.arrivalOf(at.globalIndex(at.position()));
            return sinceEpochMs == Long.MAX_VALUE ? Long.MAX_VALUE : at.epochMs() + sinceEpochMs;
        }
    }
}
