import { auditMigrations, KeyUnusable, openSealingKey, Seals } from '@app/audit';
import { DatabaseModule, databaseUrls } from '@app/database';
import { EventLog, EventStoreModule, eventStoreMigrations } from '@app/event-store';
import { KafkaClient, kafkaSettings } from '@app/messaging';
import { ProcessModule } from '@app/process';
import { HealthProbes, SettingsInvalid, type Settings } from '@app/runtime';
import { Logger, Module, type DynamicModule } from '@nestjs/common';
import { Pool } from 'pg';
import { SealPublisher } from './seal-publisher';
import { Sealer } from './sealer';

@Module({})
export class SealerModule {
  /** @throws {SettingsInvalid} when the key cannot be used. */
  static forRoot(settings: Settings): DynamicModule {
    const kafka = kafkaSettings(settings);
    const key = sealingKey(settings);
    return {
      module: SealerModule,
      imports: [
        ProcessModule.forApp('sealer', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          ...databaseUrls(settings),
          connections: 4,
          migrations: [...eventStoreMigrations, ...auditMigrations],
        }),
        EventStoreModule.forRoot(),
      ],
      providers: [
        {
          provide: Sealer,
          inject: [Pool, EventLog, HealthProbes],
          useFactory: (pool: Pool, log: EventLog, probes: HealthProbes) => {
            if (key.made)
              new Logger('sealer').log(`A new signing key was made: ${key.made}. Keep it, and keep it to yourself`);
            const publisher =
              kafka &&
              new SealPublisher(pool, new KafkaClient(kafka, 'sendmux-sealer'), {
                topic: settings.AUDIT_TOPIC,
                partitions: 1,
                replication: settings.KAFKA_REPLICATION,
              });
            return new Sealer(pool, probes, new Seals(pool, log, key.key), settings.AUDIT_SEAL_INTERVAL, publisher);
          },
        },
      ],
    };
  }
}

function sealingKey(settings: Settings): ReturnType<typeof openSealingKey> {
  try {
    return openSealingKey(settings.SENDMUX_DATA_DIR, settings.AUDIT_SIGNING_KEY_FILE);
  } catch (error) {
    if (error instanceof KeyUnusable) throw new SettingsInvalid(`AUDIT_SIGNING_KEY_FILE: ${error.message}`);
    throw error;
  }
}
