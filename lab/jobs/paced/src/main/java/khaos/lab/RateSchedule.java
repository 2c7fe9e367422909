package khaos.lab;

import java.io.Serializable;
import java.math.BigDecimal;
import java.util.Arrays;

/**
 * How many events have arrived by when: a piecewise constant rate, and its integral.
 *
 * <p>Times are whole milliseconds since the schedule's start and rates whole events per second, so that one
 * event is exactly 1000 units of {@code rate × ms}. All arithmetic is on integers: a position never drifts
 * from the wall clock, however long the job lives and however often it restarts.
 */
final class RateSchedule implements Serializable {

    private static final long serialVersionUID = 1L;
    private static final long UNITS_PER_EVENT = 1000;

    /** What holds after the last segment. */
    enum Then {
        /** The last rate, for ever. */
        HOLD,
        /** The whole schedule again, from its first segment. */
        REPEAT
    }

    private final Then then;
    private final long[] rates;
    /** {@code startMs[i]} opens segment i; one more entry than rates, the last is the end of the schedule. */
    private final long[] startMs;
    /** Units that arrived before {@code startMs[i]}. */
    private final long[] unitsBefore;

    private RateSchedule(long[] lengthsMs, long[] rates, Then then) {
        this.then = then;
        this.rates = rates;
        startMs = new long[rates.length + 1];
        unitsBefore = new long[rates.length + 1];
        for (int i = 0; i < rates.length; i++) {
            startMs[i + 1] = startMs[i] + lengthsMs[i];
            unitsBefore[i + 1] = unitsBefore[i] + lengthsMs[i] * rates[i];
        }
    }

    /**
     * Reads {@code seconds:events/s} pairs, as in {@code 60:2000,0.5:5000}. Seconds may be fractions down to a
     * millisecond.
     */
    static RateSchedule parse(String text, Then then) {
        String[] segments = text.split(",");
        long[] lengthsMs = new long[segments.length];
        long[] rates = new long[segments.length];
        for (int i = 0; i < segments.length; i++) {
            String[] pair = segments[i].split(":");
            if (pair.length != 2) {
                throw new IllegalArgumentException(
                        "'" + segments[i] + "' is not seconds:events/s, as in 60:2000");
            }
            try {
                lengthsMs[i] = new BigDecimal(pair[0].strip()).movePointRight(3).longValueExact();
                rates[i] = Long.parseLong(pair[1].strip());
            } catch (NumberFormatException | ArithmeticException e) {
                throw new IllegalArgumentException(
                        "'" + segments[i] + "' is not seconds:events/s, as in 60:2000", e);
            }
            if (lengthsMs[i] <= 0 || rates[i] < 0) {
                throw new IllegalArgumentException(
                        "'" + segments[i] + "' needs more than no seconds and no negative rate");
            }
        }
        return new RateSchedule(lengthsMs, rates, then);
    }

    /** Events that arrived in the first {@code ms} milliseconds; none before the start. */
    long arrivedBy(long ms) {
        if (ms <= 0) {
            return 0;
        }
        long rounds = then == Then.REPEAT ? ms / roundMs() : 0;
        return (rounds * roundUnits() + unitsWithinRound(ms - rounds * roundMs())) / UNITS_PER_EVENT;
    }

    /**
     * The first millisecond by which event {@code index} (from 0) has arrived, so that {@code arrivedBy} of it is
     * more than {@code index}. {@code Long.MAX_VALUE} if it never does.
     */
    long arrivalOf(long index) {
        long units = Math.multiplyExact(index + 1, UNITS_PER_EVENT);
        if (then == Then.HOLD) {
            return msWithinRound(units);
        }
        if (roundUnits() == 0) {
            return Long.MAX_VALUE;
        }
        // The round in which the last of the event's units arrives: a whole number of rounds ends one, it does
        // not open the next.
        long rounds = (units - 1) / roundUnits();
        return rounds * roundMs() + msWithinRound(units - rounds * roundUnits());
    }

    private long roundMs() {
        return startMs[rates.length];
    }

    private long roundUnits() {
        return unitsBefore[rates.length];
    }

    private long unitsWithinRound(long ms) {
        int found = Arrays.binarySearch(startMs, 0, rates.length, ms);
        int segment = found >= 0 ? found : -found - 2;
        return unitsBefore[segment] + (ms - startMs[segment]) * rates[segment];
    }

    private long msWithinRound(long units) {
        int segment = 0;
        while (segment < rates.length - 1 && unitsBefore[segment + 1] < units) {
            segment++;
        }
        if (rates[segment] == 0) {
            return Long.MAX_VALUE;
        }
        long missing = units - unitsBefore[segment];
        return startMs[segment] + (missing + rates[segment] - 1) / rates[segment];
    }
}
