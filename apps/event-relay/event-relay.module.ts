import { Module, type DynamicModule } from '@nestjs/common';
import { DatabaseModule, databaseUrls } from '@app/database';
import { EventLog, EventStoreModule, eventStoreMigrations } from '@app/event-store';
import { KafkaClient, kafkaSettings, messagingMigrations, topicSettings } from '@app/messaging';
import { ProcessModule } from '@app/process';
import { HealthProbes, SettingsInvalid, type Settings } from '@app/runtime';
import { Pool } from 'pg';
import { EventRelay } from './event-relay';

@Module({})
export class EventRelayModule {
  /** @throws {SettingsInvalid} when no Kafka is configured. */
  static forRoot(settings: Settings): DynamicModule {
    const kafka = kafkaSettings(settings);
    if (!kafka)
      throw new SettingsInvalid(
        'KAFKA_BROKERS is not set: event-relay carries the events to Kafka. Without Kafka it is not needed; to try it: make start KAFKA=1',
      );
    return {
      module: EventRelayModule,
      imports: [
        ProcessModule.forApp('event-relay', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          ...databaseUrls(settings),
          migrations: [...eventStoreMigrations, ...messagingMigrations],
          connections: 4,
        }),
        EventStoreModule.forRoot(),
      ],
      providers: [
        {
          provide: EventRelay,
          inject: [Pool, EventLog, HealthProbes],
          useFactory: (pool: Pool, log: EventLog, probes: HealthProbes) =>
            new EventRelay(
              pool,
              log,
              probes,
              new KafkaClient(kafka, 'sendmux-event-relay'),
              topicSettings(settings),
              settings.KAFKA_GROUP_PREFIX,
            ),
        },
      ],
    };
  }
}
