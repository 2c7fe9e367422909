package khaos.lab;

import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** The table that ads are joined with: {@code ad-0457} is the eighth of the ten ads of {@code campaign-45}. */
final class Campaigns {

    static final int CAMPAIGNS = 100;
    static final int ADS_OF_EACH = 10;

    private static final Map<String, String> BY_AD =
            IntStream.range(0, CAMPAIGNS * ADS_OF_EACH)
                    .boxed()
                    .collect(
                            Collectors.toUnmodifiableMap(
                                    ad -> "ad-%04d".formatted(ad),
                                    ad -> "campaign-%02d".formatted(ad / ADS_OF_EACH)));

    private Campaigns() {}

    /** The campaign that {@code ad} belongs to; empty where it belongs to none. */
    static Optional<String> of(String ad) {
        return Optional.ofNullable(BY_AD.get(ad));
    }
}
