package khaos.lab;

import java.io.IOException;
import org.apache.flink.api.common.typeinfo.TypeInformation;

/**
 * <code>{"user_id":…,"page_id":…,"ad_id":"ad-0457","ad_type":…,"event_type":"view","event_time":1764054000123,
 * "ip_address":…}</code>, of which the job needs three: event times are ms since the epoch.
 */
final class AdEventFormat implements EventFormat<AdEvent> {

    private static final long serialVersionUID = 1L;

    @Override
    public AdEvent read(int partition, byte[] value) throws IOException {
        JsonFields fields = JsonFields.of(value);
        return new AdEvent(
                partition,
                fields.text("ad_id"),
                fields.text("event_type").equals("view"),
                fields.timeMs("event_time"));
    }

    @Override
    public TypeInformation<AdEvent> type() {
        return TypeInformation.of(AdEvent.class);
    }
}
