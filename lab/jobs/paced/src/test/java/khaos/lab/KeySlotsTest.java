package khaos.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.stream.IntStream;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class KeySlotsTest {

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 4, 8})
    void everySubtaskGetsTheSameShare(int parallelism) {
        KeySlots slots = new KeySlots(1024);
        int[] load = new int[parallelism];
        for (int slot = 0; slot < slots.count(); slot++) {
            load[subtask(slots, slot, parallelism)]++;
        }
        for (int share : load) {
            assertEquals(1024 / parallelism, share);
        }
    }

    @Test
    void aShortRunIsSpreadOverTheSubtasks() {
        KeySlots slots = new KeySlots(1024);
        for (int from = 0; from + 16 <= 1024; from += 16) {
            long first = IntStream.range(from, from + 16).filter(s -> subtask(slots, s, 2) == 0).count();
            assertEquals(8, first, 1, "slots from " + from);
        }
    }

    @Test
    void keysAreDistinct() {
        KeySlots slots = new KeySlots(5000);
        assertEquals(5000, IntStream.range(0, 5000).map(slots::key).distinct().count());
    }

    @Test
    void eventsTakeTheKeysInTurn() {
        KeySlots slots = new KeySlots(3);
        assertEquals(slots.key(1), slots.keyOf(1));
        // Beyond what an int holds: 2^40 is one more than a multiple of 3.
        assertEquals(slots.key(1), slots.keyOf(1L << 40));
    }

    private static int subtask(KeySlots slots, int slot, int parallelism) {
        return KeyGroupRangeAssignment.assignKeyToParallelOperator(
                slots.key(slot), KeySlots.MAX_PARALLELISM, parallelism);
    }
}
