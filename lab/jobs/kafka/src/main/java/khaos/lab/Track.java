package khaos.lab;

import java.util.OptionalDouble;

/**
 * The ends of the way that a vehicle went in a window, in whatever order its positions came. Five seconds of a way
 * are about straight.
 *
 * @param first the earliest position; null where there is none
 * @param last the latest
 */
public record Track(Fix first, Fix last) {

    static final Track NONE = new Track(null, null);

    Track with(Fix fix) {
        return this.first == null ? new Track(fix, fix) : new Track(earlier(first, fix), later(last, fix));
    }

    Track with(Track other) {
        return other.first == null ? this : with(other.first).with(other.last);
    }

    /** How fast the vehicle was, km/h; empty where it was seen at one time only. */
    OptionalDouble kmh() {
        if (first == null || first.timeMs() == last.timeMs()) {
            return OptionalDouble.empty();
        }
        double m = Geo.distanceM(first.lat(), first.lon(), last.lat(), last.lon());
        return OptionalDouble.of(3_600 * m / (last.timeMs() - first.timeMs()));
    }

    private static Fix earlier(Fix a, Fix b) {
        return a.compareTo(b) <= 0 ? a : b;
    }

    private static Fix later(Fix a, Fix b) {
        return a.compareTo(b) >= 0 ? a : b;
    }
}
