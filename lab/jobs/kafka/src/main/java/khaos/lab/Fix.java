package khaos.lab;

import java.util.Comparator;

/**
 * A position at a time. They are in the order of time; those of the same time in any that does not depend on which
 * came first.
 *
 * @param timeMs ms since the epoch
 * @param lat degrees north
 * @param lon degrees east
 */
public record Fix(long timeMs, double lat, double lon) implements Comparable<Fix> {

    private static final Comparator<Fix> ORDER =
            Comparator.comparingLong(Fix::timeMs).thenComparingDouble(Fix::lat).thenComparingDouble(Fix::lon);

    @Override
    public int compareTo(Fix other) {
        return ORDER.compare(this, other);
    }
}
