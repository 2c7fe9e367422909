package khaos.lab;

/** Distances on the ground, by {@code StrictMath}: the same bits on every machine, interpreted or compiled. */
final class Geo {

    /** The mean radius of the earth, m. */
    private static final double RADIUS_M = 6_371_008.8;

    private Geo() {}

    /** Along the great circle, m; positions in degrees. */
    static double distanceM(double fromLat, double fromLon, double toLat, double toLon) {
        double north = StrictMath.sin(Math.toRadians(toLat - fromLat) / 2);
        double east = StrictMath.sin(Math.toRadians(toLon - fromLon) / 2);
        double narrower = StrictMath.cos(Math.toRadians(fromLat)) * StrictMath.cos(Math.toRadians(toLat));
        double haversine = north * north + narrower * east * east;
        return 2 * RADIUS_M * StrictMath.asin(Math.min(1, Math.sqrt(haversine)));
    }
}
