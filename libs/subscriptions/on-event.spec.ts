import { Logger } from '@nestjs/common';
import { Server, type CustomTransportStrategy } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { everyDomainEvent, schemaVersions } from '@app/mail-domain';
import { EventConsumer, type DeliveredEvent } from '@app/messaging';
import { OnEvent, type Delivered } from './on-event';

const heard: string[] = [];

@EventConsumer()
class Controller {
  @OnEvent('VerificationFailed')
  async ofOne({ stream, data: { episode } }: Delivered<'VerificationFailed'>): Promise<void> {
    await Promise.resolve(heard.push(`${stream} failed, ${episode}`));
  }

  @OnEvent('DomainAdded', 'MailboxCreated')
  async ofTwo({ type, data }: Delivered<'DomainAdded' | 'MailboxCreated'>): Promise<void> {
    await Promise.resolve(heard.push(`${type} of ${data.team}`));
  }
}

@EventConsumer()
class EveryController {
  @OnEvent(...everyDomainEvent)
  async ofAll({ type }: Delivered<(typeof everyDomainEvent)[number]>): Promise<void> {
    await Promise.resolve(heard.push(`every: ${type}`));
  }
}

class Direct extends Server implements CustomTransportStrategy {
  listen(callback: () => void): void {
    callback();
  }
  close(): void {}
  on(): never {
    throw new Error('emits nothing');
  }
  unwrap(): never {
    throw new Error('wraps nothing');
  }
}

/** Delivers an event to the controllers that subscribe to it. */
async function deliver(controllers: (typeof Controller | typeof EveryController)[], event: Partial<DeliveredEvent>) {
  const strategy = new Direct();
  const app = (await Test.createTestingModule({ controllers }).compile()).createNestMicroservice({ strategy });
  await app.listen();
  await strategy.getHandlerByPattern(event.type!)?.({ stream: 'mdom_1', schemaVersion: 1, ...event });
  await app.close();
}

beforeAll(() => {
  Logger.overrideLogger(false);
});
beforeEach(() => {
  heard.length = 0;
});

it('gives a handler the events of its types, with their data', async () => {
  await deliver([Controller], { type: 'VerificationFailed', data: { failing: [], episode: 2 } });
  await deliver([Controller], { type: 'MailboxCreated', data: { team: 'team_a' } });
  await deliver([Controller], { type: 'DomainDeleted', data: {} });
  expect(heard).toEqual(['mdom_1 failed, 2', 'MailboxCreated of team_a']);
});

it('gives a handler of every domain event each that the model has', async () => {
  for (const type of Object.keys(schemaVersions)) await deliver([EveryController], { type, data: {} });
  expect(heard).toEqual(Object.keys(schemaVersions).map((type) => `every: ${type}`));
});

/** Holds the types: `npm run typecheck` compiles it and nothing calls it. Each line marked as an error must be one. */
export class Types {
  // @ts-expect-error -- no event has that name
  @OnEvent('DomainMoved')
  noSuchEvent(): Promise<void> {
    return Promise.resolve();
  }

  // @ts-expect-error -- another event's data
  @OnEvent('DomainAdded')
  anotherEvent({ data: { episode } }: Delivered<'VerificationFailed'>): Promise<void> {
    return Promise.resolve(void episode);
  }

  // @ts-expect-error -- one of two events only
  @OnEvent('DomainAdded', 'VerificationFailed')
  oneOfTwo(event: Delivered<'DomainAdded'>): Promise<void> {
    return Promise.resolve(void event);
  }
}
