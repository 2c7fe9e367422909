package khaos.lab;

import java.time.Duration;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;

/**
 * IoT vehicles, the first of the paper's jobs: positions of vehicles → those near an observation point → the speed
 * of each over the last 5 s, every second → those at 70 km/h or more.
 */
public final class IotVehiclesJob {

    private IotVehiclesJob() {}

    /** Submits the job. See {@link Pipeline} for the arguments. */
    public static void main(String[] args) throws Exception {
        Pipeline pipeline = Pipeline.parse(args);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        // Every operator has a fixed id: a later submission finds its state, and metrics keep their names.
        pipeline.deliver(
                pipeline.events(env, new VehicleFormat())
                        .filter(Vehicle::isObserved)
                        .name("observed")
                        .uid("observed")
                        .keyBy(Vehicle::plate, Types.STRING)
                        .window(SlidingEventTimeWindows.of(Duration.ofSeconds(5), Duration.ofSeconds(1)))
                        .aggregate(new TrackOfVehicle(), new SpeedInWindow())
                        .name("speed")
                        .uid("speed")
                        .filter(VehicleSpeed::isFast)
                        .name("fast")
                        .uid("fast"));
        env.execute();
    }
}
