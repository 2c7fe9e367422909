package khaos.lab;

/**
 * How often the ads of a campaign were seen in a window.
 *
 * @param campaign which campaign
 * @param windowStartMs the beginning of the window, ms since the epoch
 * @param views how often
 */
public record CampaignViews(String campaign, long windowStartMs, long views) implements Result {

    @Override
    public String about() {
        return campaign;
    }

    @Override
    public byte[] json() {
        return JsonFields.bytes(
                JsonFields.empty()
                        .put("campaign_id", campaign)
                        .put("window_start", windowStartMs)
                        .put("views", views));
    }
}
