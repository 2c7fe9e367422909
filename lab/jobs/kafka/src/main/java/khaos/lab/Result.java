package khaos.lab;

import java.nio.charset.StandardCharsets;

/** What a job gives out: always the same bytes for the same events. */
interface Result {

    /** Whom it is about. */
    String about();

    /** All of it, JSON. */
    byte[] json();

    /** The key of its record. */
    default byte[] key() {
        return about().getBytes(StandardCharsets.UTF_8);
    }
}
