import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A plain console consumer: every record of some topics as text, with Kafka's own client and nothing of ours.
 *  java -cp 'libs/*' Console.java BOOTSTRAP TOPIC… prints topic, partition, offset, key, headers and value, by tabs. */
public class Console {
    public static void main(String[] given) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", given[0]);
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            List<TopicPartition> places = List.of(given).subList(1, given.length).stream()
                .flatMap(topic -> consumer.partitionsFor(topic).stream())
                .map(one -> new TopicPartition(one.topic(), one.partition())).collect(Collectors.toList());
            consumer.assign(places);
            consumer.seekToBeginning(places);
            var ends = consumer.endOffsets(places);
            while (places.stream().anyMatch(place -> consumer.position(place) < ends.get(place))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    StringBuilder headers = new StringBuilder();
                    record.headers().forEach(one -> headers.append(headers.length() > 0 ? "," : "")
                        .append(one.key()).append(':').append(new String(one.value())));
                    System.out.println(String.join("\t", record.topic(), "" + record.partition(), "" + record.offset(),
                        record.key(), headers, record.value()));
                }
            }
        }
    }
}
