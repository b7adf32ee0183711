import { applyDecorators, Catch, Controller, UseFilters, type RpcExceptionFilter } from '@nestjs/common';
import { throwError, type Observable } from 'rxjs';

/**
 * Passes a handler's error on. Nest would replace it with "Internal server error", and a transport that retries and
 * parks needs the error.
 */
@Catch()
class HandlerErrorFilter implements RpcExceptionFilter {
  catch(error: unknown): Observable<never> {
    return throwError(() => error);
  }
}

/**
 * Marks a controller whose methods receive events, each those that its `@OnEvent` of `@app/subscriptions` names. An
 * error of a method reaches the transport, which calls the method again and parks the event after the last attempt.
 */
export const EventConsumer = (): ClassDecorator => applyDecorators(Controller(), UseFilters(HandlerErrorFilter));
