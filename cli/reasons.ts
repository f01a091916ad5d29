/** Why nobody was reached, in words. */
import { GfsError } from '../protocol/errors.js';
import { codeOf } from './failure.js';

export function reasonOf(error: unknown): string {
  const code = codeOf(error);
  if (code === 'ECONNREFUSED') return 'nobody listens there';
  if (code === 'ETIMEDOUT' || code === 'EHOSTUNREACH' || code === 'ENETUNREACH')
    return 'that host does not answer';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'there is no such host name';
  if (error instanceof GfsError && error.code === 'MALFORMED') return 'what answers there is not GFS';
  if (error instanceof GfsError && error.code === 'DISCONNECTED')
    return 'it closed the connection; is it GFS?';
  if (error instanceof GfsError && error.code === 'UNKNOWN_MESSAGE') return 'it is of another version of GFS';
  return (error as Error).message;
}

/** What an error says, with the system's part of it in words. */
export function described(error: Error): string {
  const { cause, message } = error;
  if (!(cause instanceof Error)) return message;
  const reason = reasonOf(cause);
  return message.endsWith(cause.message)
    ? message.slice(0, message.length - cause.message.length) + reason
    : `${message} (${reason})`;
}
