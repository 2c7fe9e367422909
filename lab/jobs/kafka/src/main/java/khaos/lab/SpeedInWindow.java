package khaos.lab;

import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** Says whose track it is, of when, and how fast it was; nothing of a vehicle that was seen at one time only. */
final class SpeedInWindow extends ProcessWindowFunction<Track, VehicleSpeed, String, TimeWindow> {

    private static final long serialVersionUID = 1L;

    @Override
    public void process(String plate, Context context, Iterable<Track> tracks, Collector<VehicleSpeed> out) {
        long endMs = context.window().getEnd();
        tracks.forEach(track -> track.kmh().ifPresent(kmh -> out.collect(new VehicleSpeed(plate, endMs, kmh))));
    }
}
