package khaos.lab;

/** What happened at a time of its own, and where it stands in the input. */
interface TimedEvent {

    /** The partition of the input that it is in. */
    int partition();

    /** When it happened, ms since the epoch. */
    long timeMs();
}
