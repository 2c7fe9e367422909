package khaos.lab;

import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** Says of which campaign a count is, and of when. */
final class ViewsInWindow extends ProcessWindowFunction<Long, CampaignViews, String, TimeWindow> {

    private static final long serialVersionUID = 1L;

    @Override
    public void process(String campaign, Context context, Iterable<Long> counts, Collector<CampaignViews> out) {
        long startMs = context.window().getStart();
        counts.forEach(views -> out.collect(new CampaignViews(campaign, startMs, views)));
    }
}
