import { applyDecorators, Catch, Controller, UseFilters, type RpcExceptionFilter } from '@nestjs/common';
import { throwError, type Observable } from 'rxjs';

/** Nest answers a handler's error with "Internal server error"; a transport that retries and parks needs the error. */
@Catch()
class HandlerErrorFilter implements RpcExceptionFilter {
  catch(error: unknown): Observable<never> {
    return throwError(() => error);
  }
}

/**
 * A controller whose `@EventPattern<string>('DomainAdded')` methods get a RecordedEvent as `@Payload()`. What a method
 * throws reaches the transport, which calls it again and in the end parks the event.
 */
export const EventConsumer = (): ClassDecorator => applyDecorators(Controller(), UseFilters(HandlerErrorFilter));
