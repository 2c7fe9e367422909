package khaos.lab;

import org.apache.flink.api.common.functions.AggregateFunction;

/** Makes one track of the positions of a vehicle, as they come. */
final class TrackOfVehicle implements AggregateFunction<Vehicle, Track, Track> {

    private static final long serialVersionUID = 1L;

    @Override
    public Track createAccumulator() {
        return Track.NONE;
    }

    @Override
    public Track add(Vehicle vehicle, Track track) {
        return track.with(vehicle.fix());
    }

    @Override
    public Track getResult(Track track) {
        return track;
    }

    @Override
    public Track merge(Track a, Track b) {
        return a.with(b);
    }
}
