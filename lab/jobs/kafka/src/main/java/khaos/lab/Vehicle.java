package khaos.lab;

/**
 * Where a vehicle was.
 *
 * @param plate which vehicle
 * @param lat degrees north
 * @param lon degrees east
 */
public record Vehicle(int partition, String plate, double lat, double lon, long timeMs) implements TimedEvent {

    static final double OBSERVED_LAT = 52.51623;
    static final double OBSERVED_LON = 13.38532;
    /** How far around the observation point vehicles are looked at, m. */
    static final double OBSERVED_WITHIN_M = 1_000;

    boolean isObserved() {
        return Geo.distanceM(OBSERVED_LAT, OBSERVED_LON, lat, lon) <= OBSERVED_WITHIN_M;
    }

    Fix fix() {
        return new Fix(timeMs, lat, lon);
    }
}
