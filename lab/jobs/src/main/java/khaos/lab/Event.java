package khaos.lab;

/**
 * One record on the wire.
 *
 * @param slot which of the job's keys it belongs to, see {@link KeySlots}
 * @param primes true for the records that only create state, before any arrival
 * @param padding gives the record the size of a real one. Without it thousands of records fit into the network
 *     buffers, and as many would seem to be read long before they are worked on.
 */
public record Event(int slot, boolean primes, byte[] padding) {

    private static final byte[] PADDING = new byte[256];

    /** An event that arrived. */
    static Event arrived(int slot) {
        return new Event(slot, false, PADDING);
    }

    /** An order to create a key's state. */
    static Event priming(int slot) {
        return new Event(slot, true, PADDING);
    }
}
