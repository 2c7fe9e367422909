package khaos.lab;

import org.apache.flink.api.connector.source.SourceSplit;

/**
 * One of {@code count} equal shares of the arriving events, and how far it has been read. This is what a checkpoint
 * holds: the epoch travels with the position, so that a job restored elsewhere keeps the same log of arrivals.
 *
 * @param index which share, from 0
 * @param count number of shares
 * @param epochMs wall clock at which the rate schedule starts, or {@link #UNTOLD}
 * @param primed priming records of this share already emitted
 * @param position events of this share already emitted
 */
record PacedSplit(int index, int count, long epochMs, long primed, long position) implements SourceSplit {

    /** Of a schedule whose start is not known yet: at no time has anything arrived. */
    static final long UNTOLD = Long.MAX_VALUE;

    /** A share of which nothing is read and whose start is not known. */
    static PacedSplit untold(int index, int count) {
        return new PacedSplit(index, count, UNTOLD, 0, 0);
    }

    boolean isTold() {
        return epochMs != UNTOLD;
    }

    /** The same once the start is known, after what is to be skipped. */
    PacedSplit told(Start.Begin begin, RateSchedule schedule) {
        long skipped = shareOf(schedule.arrivedBy(begin.fromMs() - begin.epochMs()));
        return new PacedSplit(index, count, begin.epochMs(), primed, skipped);
    }

    @Override
    public String splitId() {
        return index + "/" + count;
    }

    /** Of the first {@code total} events of all shares, how many fall to this one. */
    long shareOf(long total) {
        return (total + count - 1 - index) / count;
    }

    /** Number among all shares of event {@code n} of this one. */
    long globalIndex(long n) {
        return n * count + index;
    }
}
