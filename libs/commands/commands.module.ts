import { Module, type DynamicModule } from '@nestjs/common';
import { CqrsModule } from '@nestjs/cqrs';
import { EventStore, EventStoreModule } from '@app/event-store';
import { checkMailboxKeyRing, mailboxKeyRing, MailboxKeys } from '@app/mailbox-keys';
import { domainsProjection, mailboxesProjection } from '@app/read-model';
import { Pool } from 'pg';
import { Commands } from './commands';
import { DomainCommandHandler } from './domain-command.handler';
import { MAILBOX_STORE, MailboxCommandHandler } from './mailbox-command.handler';

const forDomains = {
  imports: [CqrsModule.forRoot(), EventStoreModule.forRoot(domainsProjection)],
  providers: [Commands, DomainCommandHandler],
  exports: [EventStoreModule, Commands, DomainCommandHandler],
};

/** Provides the handlers of commands: those of domains by itself, and with the keys of mailboxes those of both. */
@Module(forDomains)
export class CommandsModule {
  /**
   * @param ring the setting `PERSONAL_DATA_KEYS`.
   * @throws {SettingsInvalid} without it, and at the start with a key that is another one.
   */
  static withMailboxes(ring: ReadonlyMap<string, Buffer> | undefined): DynamicModule {
    const keys = mailboxKeyRing(ring);
    return {
      module: WithMailboxes,
      ...forDomains,
      providers: [
        ...forDomains.providers,
        {
          provide: MAILBOX_STORE,
          inject: [Pool],
          useFactory: (pool: Pool) => new EventStore(pool, mailboxesProjection),
        },
        {
          provide: MailboxKeys,
          inject: [Pool],
          useFactory: async (pool: Pool) => {
            await checkMailboxKeyRing(pool, keys);
            return new MailboxKeys(pool, keys);
          },
        },
        MailboxCommandHandler,
      ],
      exports: [...forDomains.exports, MailboxKeys, MailboxCommandHandler],
    };
  }
}

@Module({})
class WithMailboxes {}
