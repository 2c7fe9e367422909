package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import org.junit.jupiter.api.Test;

class PunctualityTest {

    @Test
    void anEventMayBeASecondBehindTheLatestOfItsPartition() {
        Punctuality punctuality = new Punctuality();
        assertTrue(punctuality.admits(0, 5_000));
        assertTrue(punctuality.admits(0, 4_000));
        assertFalse(punctuality.admits(0, 3_999));
        // Neither of those was the latest.
        assertTrue(punctuality.admits(0, 4_000));
        assertTrue(punctuality.admits(0, 5_001));
        assertFalse(punctuality.admits(0, 4_000));
    }

    @Test
    void partitionsDoNotKnowOfEachOther() {
        Punctuality punctuality = new Punctuality();
        assertTrue(punctuality.admits(0, 100_000));
        assertTrue(punctuality.admits(1, 0));
        assertEquals(Map.of(0, 100_000L, 1, 0L), punctuality.latestMs());
    }

    /** Several may have read a partition one after the other, and all of them say how far they came. */
    @Test
    void ofWhatIsRememberedTheLatestCounts() {
        Punctuality punctuality = new Punctuality();
        punctuality.reached(0, 7_000);
        punctuality.reached(0, 2_000);
        assertFalse(punctuality.admits(0, 5_999));
        assertTrue(punctuality.admits(0, 6_000));
    }
}
