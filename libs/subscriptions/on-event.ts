import type { PipeTransform } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { upcast, type EventVersions } from '@app/decider';
import { domainEventVersions, type DomainEvent } from '@app/mail-domain';
import { mailboxEventVersions, type StoredMailboxEvent } from '@app/mailbox';
import type { DeliveredEvent } from '@app/messaging';

type ModelEvent = DomainEvent | StoredMailboxEvent;
export type EventType = ModelEvent['type'];

/** An event as its handler gets it. Its data always have the current schema version, whichever was recorded. */
export type Delivered<Type extends EventType> = {
  readonly [T in Type]: Omit<DeliveredEvent, 'type' | 'data'> & {
    readonly type: T;
    readonly data: Extract<ModelEvent, { type: T }>['data'];
  };
}[Type];

/** Says how to read every event of the product. */
export const eventVersions: EventVersions = {
  written: { ...domainEventVersions.written, ...mailboxEventVersions.written },
  upcasters: { ...domainEventVersions.upcasters, ...mailboxEventVersions.upcasters },
};

const asWrittenNow: PipeTransform<DeliveredEvent, DeliveredEvent> = {
  transform: (event) => ({ ...event, data: upcast(event, eventVersions) }),
};

/**
 * Marks a method of an `@EventConsumer()` as the handler of these events, on either transport. It may be called more
 * than once with the same event. `@OnEvent(...everyDomainEvent)` subscribes to all events of a model, including those
 * that a later release adds.
 */
export const OnEvent =
  <Type extends EventType>(...types: readonly Type[]) =>
  <Handler extends (event: Delivered<Type>) => Promise<void>>(
    target: object,
    method: string | symbol,
    descriptor: TypedPropertyDescriptor<Handler>,
  ): void => {
    Payload(asWrittenNow)(target, method, 0);
    EventPattern<string[]>([...types])(target, method, descriptor);
  };
