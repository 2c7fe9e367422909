package khaos.lab;

import java.io.Serializable;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;

/**
 * Keys that load every subtask alike.
 *
 * <p>Flink hashes a key to one of {@code MAX_PARALLELISM} groups and gives each subtask a range of groups. Keys
 * taken at random would load subtasks unevenly, and the hottest one, not the chosen capacity, would bound the job.
 * Here slot {@code s} stands for a key that is known to fall into group {@code s·STRIDE mod MAX_PARALLELISM}: every
 * group gets as many keys as the others, and neighbouring slots lie in distant groups, so that even a short run of
 * consecutive slots is spread over all subtasks.
 */
final class KeySlots implements Serializable {

    private static final long serialVersionUID = 1L;

    /** Parallelisms that divide it are loaded exactly evenly. */
    static final int MAX_PARALLELISM = 128;

    /** Odd, so that it visits every group; near the golden section of the groups, so that it spreads them. */
    private static final int STRIDE = 79;

    private final int[] keys;

    KeySlots(int count) {
        keys = new int[count];
        int[] next = new int[MAX_PARALLELISM];
        for (int group = 0; group < MAX_PARALLELISM; group++) {
            next[group] = firstKeyFrom(0, group);
        }
        for (int slot = 0; slot < count; slot++) {
            int group = (int) ((long) slot * STRIDE % MAX_PARALLELISM);
            keys[slot] = next[group];
            next[group] = firstKeyFrom(keys[slot] + 1, group);
        }
    }

    int count() {
        return keys.length;
    }

    int key(int slot) {
        return keys[slot];
    }

    /** The key of event {@code index}: they take turns. */
    int keyOf(long index) {
        return key((int) (index % keys.length));
    }

    private static int firstKeyFrom(int candidate, int group) {
        int key = candidate;
        while (KeyGroupRangeAssignment.assignToKeyGroup(key, MAX_PARALLELISM) != group) {
            key++;
        }
        return key;
    }
}
