package khaos.lab;

import java.time.Duration;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;

/**
 * Yahoo's streaming benchmark, the second of the paper's jobs: advertising events → views only → the campaigns of
 * their ads → how many each has in windows of 10 s.
 */
public final class YsbJob {

    private YsbJob() {}

    /** Submits the job. See {@link Pipeline} for the arguments. */
    public static void main(String[] args) throws Exception {
        Pipeline pipeline = Pipeline.parse(args);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        // Every operator has a fixed id: a later submission finds its state, and metrics keep their names.
        pipeline.deliver(
                pipeline.events(env, new AdEventFormat())
                        .filter(AdEvent::isView)
                        .name("views")
                        .uid("views")
                        .flatMap(new CampaignOfAd())
                        .name("campaign")
                        .uid("campaign")
                        .keyBy(campaign -> campaign, Types.STRING)
                        .window(TumblingEventTimeWindows.of(Duration.ofSeconds(10)))
                        .aggregate(new Count(), new ViewsInWindow())
                        .name("count")
                        .uid("count"));
        env.execute();
    }
}
