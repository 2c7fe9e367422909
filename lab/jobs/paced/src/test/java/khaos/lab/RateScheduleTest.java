package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import khaos.lab.RateSchedule.Then;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Every expected number here is the area under the rate, taken by hand. */
class RateScheduleTest {

    @ParameterizedTest
    @CsvSource({
        "-1000, 0", // nothing before the start
        "0, 0",
        "1, 2", // 2000/s is two per millisecond
        "30000, 60000",
        "60000, 120000", // 60 s · 2000/s
        "60001, 120005", // + 1 ms · 5000/s
        "120000, 420000", // 120 000 + 60 s · 5000/s
        "180000, 720000", // the last rate holds: + 60 s · 5000/s
    })
    void holdsTheLastRate(long ms, long events) {
        assertEquals(events, RateSchedule.parse("60:2000,60:5000", Then.HOLD).arrivedBy(ms));
    }

    @ParameterizedTest
    @CsvSource({
        "120000, 420000", // one round
        "150000, 480000", // + 30 s · 2000/s
        "240000, 840000", // two rounds
        "310000, 1010000", // + 60 s · 2000/s + 10 s · 5000/s
    })
    void repeatsTheRound(long ms, long events) {
        assertEquals(events, RateSchedule.parse("60:2000,60:5000", Then.REPEAT).arrivedBy(ms));
    }

    @ParameterizedTest
    @CsvSource({
        "0, 334", // 3 events/s: the first is whole after 333⅓ ms
        "1, 667",
        "2, 1000", // the third ends the first second, it does not open the pause
        "3, 2334", // second 1 to 2 has rate 0
        "5, 3000",
        "6, 3001", // third segment 0.5 s · 1000/s: one per millisecond
        "505, 3500",
        "506, 3834", // second round: 3500 + 334
    })
    void findsWhenAnEventArrives(long index, long ms) {
        RateSchedule schedule = RateSchedule.parse("1:3,1:0,1:3,0.5:1000", Then.REPEAT);
        assertEquals(ms, schedule.arrivalOf(index));
    }

    @Test
    void arrivalIsTheFirstMillisecondThatCountsTheEvent() {
        for (Then then : Then.values()) {
            RateSchedule schedule = RateSchedule.parse("0.3:7,0.2:0,1.1:1999,0.7:13", then);
            for (long index = 0; index < 5000; index++) {
                long at = schedule.arrivalOf(index);
                assertEquals(true, schedule.arrivedBy(at) > index, "arrived at " + at);
                assertEquals(true, schedule.arrivedBy(at - 1) <= index, "not before " + at);
            }
        }
    }

    @Test
    void anEventAfterTheLastNeverArrives() {
        assertEquals(Long.MAX_VALUE, RateSchedule.parse("1:3,1:0", Then.HOLD).arrivalOf(3));
        assertEquals(Long.MAX_VALUE, RateSchedule.parse("1:0", Then.REPEAT).arrivalOf(0));
    }

    @Test
    void isExactAfterAYear() {
        // 365 d of 1 s · 1/s, 2 s · 7/s: 10 512 000 rounds of 15 events.
        long yearMs = 365L * 24 * 3600 * 1000;
        RateSchedule schedule = RateSchedule.parse("1:1,2:7", Then.REPEAT);
        assertEquals(157_680_000, schedule.arrivedBy(yearMs));
        assertEquals(yearMs, schedule.arrivalOf(157_680_000 - 1));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "60", "60:", "60:2000:1", "a:1", "0:5", "-1:5", "1:-5", "0.0001:5", "1:2.5"})
    void refusesWhatIsNoSchedule(String text) {
        assertThrows(IllegalArgumentException.class, () -> RateSchedule.parse(text, Then.HOLD));
    }
}
