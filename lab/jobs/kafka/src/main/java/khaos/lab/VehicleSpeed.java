package khaos.lab;

/**
 * How fast a vehicle was in a window.
 *
 * @param plate which vehicle
 * @param windowEndMs the end of the window, which it does not hold, ms since the epoch
 * @param kmh its speed
 */
public record VehicleSpeed(String plate, long windowEndMs, double kmh) implements Result {

    /** From here on a speed is given out, km/h. */
    static final double FAST_KMH = 70;

    boolean isFast() {
        return kmh >= FAST_KMH;
    }

    @Override
    public String about() {
        return plate;
    }

    @Override
    public byte[] json() {
        double hundredths = Math.round(100 * kmh) / 100.0;
        return JsonFields.bytes(
                JsonFields.empty().put("plate", plate).put("window_end", windowEndMs).put("kmh", hundredths));
    }
}
