package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Optional;
import org.junit.jupiter.api.Test;

class CampaignsTest {

    @Test
    void tenAdsMakeACampaign() {
        assertEquals(Optional.of("campaign-00"), Campaigns.of("ad-0000"));
        assertEquals(Optional.of("campaign-00"), Campaigns.of("ad-0009"));
        assertEquals(Optional.of("campaign-01"), Campaigns.of("ad-0010"));
        assertEquals(Optional.of("campaign-45"), Campaigns.of("ad-0457"));
        assertEquals(Optional.of("campaign-99"), Campaigns.of("ad-0999"));
    }

    @Test
    void anAdOfNoneIsJoinedWithNone() {
        assertEquals(Optional.empty(), Campaigns.of("ad-1000"));
        assertEquals(Optional.empty(), Campaigns.of("0457"));
        assertEquals(Optional.empty(), Campaigns.of(""));
    }

    @Test
    void whatIsCountedAddsUp() {
        Count count = new Count();
        long two = count.add("b", count.add("a", count.createAccumulator()));
        assertEquals(2, count.getResult(two));
        assertEquals(5, count.merge(two, 3L));
    }
}
