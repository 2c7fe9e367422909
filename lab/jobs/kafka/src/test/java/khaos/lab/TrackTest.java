package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.OptionalDouble;
import java.util.Random;
import org.junit.jupiter.api.Test;

class TrackTest {

    private static final TrackOfVehicle TRACKS = new TrackOfVehicle();

    @Test
    void aSpeedIsAWayOverATime() {
        // 0.0009° north in 4 s: 100.0756 m, 25.0189 m/s, 90.068 km/h.
        assertEquals(90.068, kmh(at(1_000, 52.5), at(3_000, 52.5006), at(5_000, 52.5009)), 0.001);
        // Half as far.
        assertEquals(45.034, kmh(at(1_000, 52.5), at(5_000, 52.50045)), 0.001);
    }

    @Test
    void whoeverWasSeenOnceHasNoSpeed() {
        assertEquals(OptionalDouble.empty(), Track.NONE.kmh());
        assertEquals(OptionalDouble.empty(), trackOf(List.of(at(1_000, 52.5))).kmh());
        assertEquals(OptionalDouble.empty(), trackOf(List.of(at(1_000, 52.5), at(1_000, 52.6))).kmh());
    }

    /** Partitions are read in any order, and so what a window holds comes in any. */
    @Test
    void theOrderInWhichPositionsComeDoesNotMatter() {
        // The first two, and the last two, are of the same time.
        List<Vehicle> vehicles =
                new ArrayList<>(
                        List.of(
                                at(1_000, 52.5),
                                at(1_000, 52.6),
                                at(2_000, 52.7),
                                at(3_000, 52.8),
                                at(3_000, 52.9)));
        Track expected = new Track(new Fix(1_000, 52.5, 13.4), new Fix(3_000, 52.9, 13.4));
        Random random = new Random(7);
        for (int n = 0; n < 100; n++) {
            Collections.shuffle(vehicles, random);
            assertEquals(expected, trackOf(vehicles));
            int cut = random.nextInt(vehicles.size() + 1);
            Track head = trackOf(vehicles.subList(0, cut));
            Track tail = trackOf(vehicles.subList(cut, vehicles.size()));
            assertEquals(expected, TRACKS.merge(head, tail));
        }
    }

    private static Vehicle at(long timeMs, double lat) {
        return new Vehicle(0, "a", lat, 13.4, timeMs);
    }

    private static double kmh(Vehicle... vehicles) {
        return trackOf(List.of(vehicles)).kmh().orElseThrow();
    }

    private static Track trackOf(List<Vehicle> vehicles) {
        Track track = TRACKS.createAccumulator();
        for (Vehicle vehicle : vehicles) {
            track = TRACKS.add(vehicle, track);
        }
        return TRACKS.getResult(track);
    }
}
