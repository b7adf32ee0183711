import type { ApiFailure } from './api';
import { Prose } from './value';

/** Says what went wrong, and by which id the support finds the request. */
export function Problem({ failure, again }: { readonly failure: ApiFailure; readonly again?: () => void }) {
  return (
    <div class="note bad stack" role="alert">
      <p>
        <Prose text={failure.message} />
      </p>
      {failure.requestId && (
        <p class="small">
          Request <span class="value">{failure.requestId}</span>: name it when you ask for help.
        </p>
      )}
      {again && (
        <p>
          <button type="button" onClick={again}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}
