package khaos.lab;

/**
 * Somebody saw an ad, clicked on it or bought something.
 *
 * @param ad which ad
 * @param isView whether it was seen, and nothing else
 */
public record AdEvent(int partition, String ad, boolean isView, long timeMs) implements TimedEvent {}
