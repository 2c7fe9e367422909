package khaos.lab;

import java.util.Map;
import java.util.TreeMap;

/**
 * Which events come in time: those that happened at most {@link #BOUND_MS} before the latest one that their
 * partition had until then. That is a question about the input alone, and not about what was running when.
 */
final class Punctuality {

    /** How far events of a partition may be out of order, ms. */
    static final long BOUND_MS = 1_000;

    private final Map<Integer, Long> latestMs = new TreeMap<>();

    /** Takes the next event of {@code partition}: is it in time? */
    boolean admits(int partition, long timeMs) {
        return timeMs >= reached(partition, timeMs) - BOUND_MS;
    }

    /** {@code partition} has had an event of {@code timeMs}. Says when its latest one happened. */
    long reached(int partition, long timeMs) {
        return latestMs.merge(partition, timeMs, Math::max);
    }

    /** When the latest event of each partition happened, ms since the epoch. */
    Map<Integer, Long> latestMs() {
        return latestMs;
    }
}
