package khaos.lab;

/**
 * One record on the wire.
 *
 * @param index which of its source's events it is, from 0; of those that only create state, the slot of its key
 * @param primes true for the records that only create state, before any arrival
 * @param padding gives the record the size of a real one. Without it thousands of records fit into the network
 *     buffers, and as many would seem to be read long before they are worked on.
 */
public record Event(long index, boolean primes, byte[] padding) {

    private static final byte[] PADDING = new byte[256];

    /** An event that arrived. */
    static Event arrived(long index) {
        return new Event(index, false, PADDING);
    }

    /** An order to create a key's state. */
    static Event priming(int slot) {
        return new Event(slot, true, PADDING);
    }
}
