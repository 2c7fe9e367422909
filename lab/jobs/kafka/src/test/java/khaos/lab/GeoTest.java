package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class GeoTest {

    @Test
    void aDegreeOfLatitudeIsTheSameEverywhere() {
        // π/180 · 6,371,008.8 m
        assertEquals(111_195.08, Geo.distanceM(0, 13, 1, 13), 0.01);
        assertEquals(111_195.08, Geo.distanceM(53, 13, 52, 13), 0.01);
        assertEquals(0, Geo.distanceM(52, 13, 52, 13));
    }

    @Test
    void aDegreeOfLongitudeIsHalfAsLongAtSixtyDegrees() {
        // 2 · 6,371,008.8 m · asin(cos 60° · sin 0.5°): a little less than half of one at the equator
        assertEquals(55_597.0, Geo.distanceM(60, 10, 60, 11), 1);
        assertEquals(111_195.08, Geo.distanceM(0, 179.5, 0, -179.5), 0.01);
    }

    @Test
    void fromPoleToPoleIsHalfTheEarth() {
        // π · 6,371,008.8 m
        assertEquals(20_015_114.4, Geo.distanceM(90, 0, -90, 77), 1);
    }

    @Test
    void vehiclesAreObservedWithinAThousandMeters() {
        // 0.00899° are 999.64 m, 0.009° are 1,000.76 m.
        assertTrue(at(Vehicle.OBSERVED_LAT + 0.00899, Vehicle.OBSERVED_LON).isObserved());
        assertFalse(at(Vehicle.OBSERVED_LAT + 0.009, Vehicle.OBSERVED_LON).isObserved());
        // cos 52.51623° is 0.608536: 0.0147° east are 994.7 m, 0.0149° are 1,008.2 m.
        assertTrue(at(Vehicle.OBSERVED_LAT, Vehicle.OBSERVED_LON - 0.0147).isObserved());
        assertFalse(at(Vehicle.OBSERVED_LAT, Vehicle.OBSERVED_LON - 0.0149).isObserved());
    }

    private static Vehicle at(double lat, double lon) {
        return new Vehicle(0, "a", lat, lon, 0);
    }
}
