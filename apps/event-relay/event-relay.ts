import { EventLog } from '@app/event-store';
import {
  KafkaAway,
  KafkaClient,
  LogReader,
  stalledMs,
  type LogProgress,
  type LogSession,
  type Publisher,
  type TopicSettings,
} from '@app/messaging';
import { HealthProbes } from '@app/runtime';
import {
  Inject,
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { Pool } from 'pg';
import { Counter, Gauge, Histogram } from 'prom-client';
import { PublishQueue } from './publish-queue';

const published = new Counter({ name: 'sendmux_relay_published_total', help: 'Events that Kafka has acknowledged' });
const publishSeconds = new Histogram({
  name: 'sendmux_relay_publish_seconds',
  help: 'From a send to its acknowledgement by all replicas in sync',
  buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5],
});

/**
 * The event log to one topic: in the order of the log for every key, each event at least once. Of all relays to a topic
 * one is active. Its checkpoint moves only over events that are acknowledged; after a crash, or when an acknowledgement
 * is missing, it begins again there.
 */
@Injectable()
export class EventRelay implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('event-relay');
  private readonly reader: LogReader;
  private publisher: Publisher | undefined;

  constructor(
    @Inject(Pool) pool: Pool,
    log: EventLog,
    probes: HealthProbes,
    private readonly client: KafkaClient,
    private readonly topic: TopicSettings,
  ) {
    this.reader = new LogReader({
      ...{ pool, log, startFrom: 'beginning' },
      // Another topic begins at the beginning.
      name: `event-relay ${topic.topic}`,
      wants: () => true,
      open: (session) => this.open(session),
      passes: (error) => error instanceof KafkaAway,
    });
    // eslint-disable-next-line @typescript-eslint/require-await -- a probe is a promise; this one knows at once
    probes.add('live', 'relay', async () => this.reader.assertProgress(stalledMs));
    // eslint-disable-next-line @typescript-eslint/require-await -- as above
    probes.add('ready', 'relay', async () => {
      const { status } = this.reader.progress();
      if (status !== 'active' && status !== 'standBy') throw new Error(`The relay is ${status}`);
    });
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
    measured = this.reader;
  }

  progress(): LogProgress {
    return this.reader.progress();
  }

  onApplicationBootstrap(): void {
    this.reader.start();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.reader.close();
    await this.closePublisher();
  }

  private async open({ after, lose }: LogSession): Promise<PublishQueue> {
    const { partitions, empty } = await this.ensureTopic();
    // Somebody took the topic away, or gave us another cluster: what was published is not there any more.
    if (after > 0 && empty) this.logger.warn(`${this.topic.topic} is empty: the whole log is published to it again`);
    // A producer that has failed does not know what has arrived: a new one begins anew.
    await this.closePublisher();
    const publisher = (this.publisher = await this.client.publisher(this.topic.topic, partitions));
    this.logger.log(`Publishes to ${this.topic.topic}, which has ${partitions} partitions`);
    return new PublishQueue({
      after: empty ? 0 : after,
      send: async (events) => {
        const done = publishSeconds.startTimer();
        await publisher.send(events);
        done();
        published.inc(events.length);
      },
      broken: lose,
    });
  }

  private async ensureTopic(): Promise<{ partitions: number; empty: boolean }> {
    const admin = await this.client.admin();
    try {
      const partitions = await admin.ensureTopic(this.topic);
      const ends = await admin.ends(this.topic.topic);
      return { partitions, empty: [...ends.values()].every((end) => end === 0) };
    } finally {
      await admin.close();
    }
  }

  private async closePublisher(): Promise<void> {
    const { publisher } = this;
    this.publisher = undefined;
    await publisher?.close().catch((error: Error) => this.logger.debug(`Not closed: ${error.message}`));
  }
}

/** Of this process. */
let measured: LogReader | undefined;

new Gauge({
  name: 'sendmux_relay_behind',
  help: 'How far the active relay is behind the log, in positions',
  collect() {
    const progress = measured?.progress();
    if (progress?.status === 'active') this.set(progress.head - progress.position);
    else this.reset();
  },
});
