package khaos.lab;

import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.util.Collector;

/** Joins an event with the campaign of its ad, which is all that is needed from there on. */
final class CampaignOfAd implements FlatMapFunction<AdEvent, String> {

    private static final long serialVersionUID = 1L;

    @Override
    public void flatMap(AdEvent event, Collector<String> out) {
        Campaigns.of(event.ad()).ifPresent(out::collect);
    }
}
