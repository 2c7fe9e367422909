package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.List;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.typeutils.PojoTypeInfo;
import org.junit.jupiter.api.Test;

class PacedSplitTest {

    @Test
    void sharesAddUpAndMeetTheirIndices() {
        // 7 events over 3 shares: {0, 3, 6}, {1, 4}, {2, 5}.
        PacedSplit first = new PacedSplit(0, 3, 0, 0, 0);
        PacedSplit second = new PacedSplit(1, 3, 0, 0, 0);
        PacedSplit third = new PacedSplit(2, 3, 0, 0, 0);
        assertEquals(List.of(3L, 2L, 2L), List.of(first.shareOf(7), second.shareOf(7), third.shareOf(7)));
        assertEquals(List.of(6L, 4L, 5L), List.of(first.globalIndex(2), second.globalIndex(1), third.globalIndex(1)));
    }

    @Test
    void beginsAfterWhatIsSkipped() {
        RateSchedule schedule = RateSchedule.parse("10:100", RateSchedule.Then.HOLD);
        PacedSplit untold = PacedSplit.untold(1, 2);
        assertFalse(untold.isTold());
        // 25 events arrived in the first 250 ms; 12 of them are of the second share.
        assertEquals(new PacedSplit(1, 2, 1000, 0, 12), untold.told(new Start.Begin(1000, 1250), schedule));
        assertEquals(new PacedSplit(1, 2, 1000, 0, 0), untold.told(new Start.Begin(1000, 900), schedule));
        assertTrue(untold.told(new Start.Begin(1000, 1250), schedule).isTold());
    }

    @Test
    void survivesACheckpoint() throws IOException {
        List<PacedSplit> splits = List.of(new PacedSplit(0, 2, 17, 5, 1L << 40), new PacedSplit(1, 2, 17, 4, 3));
        PacedSplitsSerializer serializer = new PacedSplitsSerializer();
        assertEquals(splits, serializer.deserialize(1, serializer.serialize(splits)));
        assertThrows(IOException.class, () -> serializer.deserialize(2, serializer.serialize(splits)));
    }

    @Test
    void eventsNeedNoGenericSerializer() {
        assertEquals(PojoTypeInfo.class, TypeInformation.of(Event.class).getClass());
    }
}
